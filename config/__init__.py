"""What every other package stands on: errors, settings, the shape of the data folder, logging.

Imports nothing else of Nightsafe.
"""
