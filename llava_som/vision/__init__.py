"""Vision encoders: any transformers `AutoModel` tower and, through `timm_tower`, any timm model, behind one
interface.
"""
