"""Who is let in: the conversation, what each factor is worth, and the end of whoever may not be in any more."""
