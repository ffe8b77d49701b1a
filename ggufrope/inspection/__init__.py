"""What a file says about its rotation, for people: the facts behind ``ggufrope inspect``, and their plot."""
