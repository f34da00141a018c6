"""Vision encoders behind one interface: any transformers `AutoModel` tower and, as `timm_tower`, any timm model."""
