"""What is identifiable of weights and temperature, and how much of regularisation is a temperature."""
