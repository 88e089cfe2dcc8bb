"""What people write, YAML files and options: read strictly, refused with the place and what to write instead."""
