"""What every Agorai service stands on."""
