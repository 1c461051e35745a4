"""The flagship: glimpses, rendered text, and the losses of a reader that looks around."""
