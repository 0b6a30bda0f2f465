"""What happens on the market, projected from its events, on live pages."""
