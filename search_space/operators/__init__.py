"""One operator a file, in the folder of its kind. `base` holds what they share: context, flags, registry."""
