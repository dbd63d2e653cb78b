"""The paper's claims, tried on our models: what is measured, and the page that shows it."""
