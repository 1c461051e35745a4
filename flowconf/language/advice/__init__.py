"""What to write instead: the help for words of other tools, for keys in the wrong place, for slips in calls."""
