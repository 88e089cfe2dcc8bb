"""The sandbox that code written by a model runs in."""
