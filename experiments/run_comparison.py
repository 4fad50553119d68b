"""Compare metrics: accuracy, rank flips under shifts of 1 to 3 pixels, and which differences hold.

python experiments/run_comparison.py                        # on the embedded sample set
python experiments/run_comparison.py --data-root bapps      # on BAPPS val, people's judgments
python experiments/run_comparison.py --metric my_package.my_module:make_metric
python experiments/run_comparison.py --distances a.csv.gz b.csv.gz

--distances takes tables that were measured elsewhere: subset, sample, view, d0, d1, judge, or files
(or a folder of them) as the code of the shift-tolerant LPIPS paper writes them. Alone, nothing is
measured; with --metrics or --metric they have to be of the same triplets.
"""

from robust_lpips.cli import main
from robust_lpips.studies.comparison import STUDY

if __name__ == "__main__":
    main(STUDY, __doc__)
