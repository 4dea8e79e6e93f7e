"""``python -m relayd`` is the same as ``relayd``."""

from relayd.cli import main

if __name__ == "__main__":
    main()
