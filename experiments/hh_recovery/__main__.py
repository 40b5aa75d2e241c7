import os

# many small decompositions: threads of the linear algebra library would only wait for each other
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from .run import main

main()
