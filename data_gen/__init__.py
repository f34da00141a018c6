"""The data CLI: regions in, tagged images and training records out. Imports llava_som, never the other way round."""
