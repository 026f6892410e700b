template-learning flex --help >/dev/null
python3 -c "import prody, scipy, numba, template_learning.stages.flex"
