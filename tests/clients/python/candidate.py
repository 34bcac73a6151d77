"""A candidate of the official Python client's leader election.

    candidate.py NAME

Prints "NAME leads" when it is elected and "NAME stopped" when it could not renew in time. The lock is the
ConfigMap "election" in $NS.
"""

import os
import sys

from kubernetes import config
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock


def main():
    name = sys.argv[1]
    config.load_kube_config()
    settings = electionconfig.Config(
        ConfigMapLock("election", os.environ["NS"], name),
        lease_duration=5,
        renew_deadline=4,
        retry_period=1,
        onstarted_leading=lambda: print(f"{name} leads", flush=True),
        onstopped_leading=lambda: print(f"{name} stopped", flush=True),
    )
    leaderelection.LeaderElection(settings).run()


main()
