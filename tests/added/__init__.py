"""One file of each thing that can be added to ganzoo, as another package would bring them; test_adding.py installs it."""
