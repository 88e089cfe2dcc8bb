"""Where text comes from: each kind of source, and the readers that turn its bytes into documents."""
