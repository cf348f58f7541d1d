"""TensorFlow Serving itself: Google's `tensorflow_model_server`, run where it can be found."""
