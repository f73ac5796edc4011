"""What an update costs: counted, predicted and measured."""
