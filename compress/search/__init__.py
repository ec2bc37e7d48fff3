"""Which of many smaller networks is the fastest that is still as good."""
