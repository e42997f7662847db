"""Feed-forward networks: channels of one token exchange information. Every file here is registered automatically."""
