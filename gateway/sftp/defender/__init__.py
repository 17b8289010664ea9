"""Before anybody has said who they are: how many connections there may be, and which addresses are turned away."""
