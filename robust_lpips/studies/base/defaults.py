"""Metrics that several studies measure by default."""

# Hand-made metrics and both released shift-tolerant ones, next to an untrained network; all of them
# need nothing but what this package installs and piq.
QUICK_METRICS = (
    "l2",
    "psnr",
    "ssim",
    "ms-ssim",
    "fsim",
    "gmsd",
    "alexnet-shift-tolerant",
    "vgg16-shift-tolerant",
    "alexnet-untrained",
)
