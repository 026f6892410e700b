"""What is done to tomograms before anyone looks at them: filters, deconvolution, denoising, borders, grey values."""
