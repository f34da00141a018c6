"""Our lmms-eval task folders: each is a YAML file, the functions it names, and a scorer that needs neither."""
