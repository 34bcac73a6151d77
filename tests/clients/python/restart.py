"""The official Python client's informer, and its plain watch with resume, while the API server is killed and comes back.

    restart.py STOP_FILE

A writer creates, changes and deletes ConfigMaps one after another until STOP_FILE exists, trying each write again
until it is answered. Informer and watch are to see every change of every object once and in order. Prints "ready"
when both follow, and at the end what was compared.
"""

import logging
import os
import sys
import threading
import time

import urllib3
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.informer import SharedInformer

NS = os.environ["NS"]
SELECTOR = "restart=python"
CHANGES = 3
WAIT_S = 60
# The statuses of a server that is starting or ending; anything else is an error of ours.
NOT_NOW = (429, 500, 503)


def until_answered(call, done):
    """Repeats a write until the server answers; `done` is the status that says an unanswered try took effect."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            return call()
        except ApiException as error:
            if error.status == done:
                return None
            if error.status not in NOT_NOW or time.monotonic() > end:
                raise
        except (urllib3.exceptions.HTTPError, OSError):
            if time.monotonic() > end:
                raise
        time.sleep(0.05)


def write_until(stop_file, core):
    """Writes rounds of one object each; what every follower is to see."""
    told, turn = [], 0
    while not os.path.exists(stop_file):
        name = f"python-{turn}"
        body = {"metadata": {"name": name, "labels": {"restart": "python"}}, "data": {"i": "0"}}
        until_answered(lambda: core.create_namespaced_config_map(NS, body), 409)
        told.append((name, "ADDED", "0"))
        for i in range(1, CHANGES + 1):
            # Writing the same value twice changes nothing, so a write that was tried again is seen once.
            until_answered(lambda: core.patch_namespaced_config_map(name, NS, {"data": {"i": str(i)}}), None)
            told.append((name, "MODIFIED", str(i)))
        until_answered(lambda: core.delete_namespaced_config_map(name, NS), 404)
        told.append((name, "DELETED", str(CHANGES)))
        turn += 1
    return told


def entry(kind, item):
    return (item.metadata.name, kind, item.data["i"])


def start_informer(core, seen):
    informer = SharedInformer(core.list_namespaced_config_map, namespace=NS, label_selector=SELECTOR)
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        informer.add_event_handler(kind, lambda item, kind=kind: seen.append(entry(kind, item)))
    informer.start()
    end = time.monotonic() + WAIT_S
    while informer._resource_version is None:
        assert time.monotonic() < end, "the informer does not list"
        time.sleep(0.02)
    return informer


def follow(core, version, seen, ended):
    """A watch as a careful program writes it: after a break it goes on from the last version it saw."""
    while not ended.is_set():
        watcher = watch.Watch()
        try:
            for event in watcher.stream(core.list_namespaced_config_map, NS, label_selector=SELECTOR, resource_version=version):
                seen.append(entry(event["type"], event["object"]))
                version = watcher.resource_version
        except ApiException as error:
            if error.status not in NOT_NOW:
                seen.append(("error", str(error.status), error.reason))
                return
        except (urllib3.exceptions.HTTPError, OSError):
            time.sleep(0.05)


def compare(what, seen, told):
    end = time.monotonic() + WAIT_S
    while len(seen) < len(told) and time.monotonic() < end:
        time.sleep(0.05)
    for i, (one, other) in enumerate(zip(seen, told)):
        assert one == other, f"{what}: change {i} is {one}, not {other}"
    assert len(seen) == len(told), f"{what}: {len(seen)} changes instead of {len(told)}"


def main():
    # The informer reports each break with a trace: breaks are what this is about.
    logging.disable(logging.CRITICAL)
    config.load_kube_config()
    urllib3.disable_warnings()
    core = client.CoreV1Api()
    by_informer, by_watch, ended = [], [], threading.Event()
    version = core.list_namespaced_config_map(NS, label_selector=SELECTOR).metadata.resource_version
    informer = start_informer(core, by_informer)
    follower = threading.Thread(target=follow, args=(client.CoreV1Api(), version, by_watch, ended), daemon=True)
    follower.start()
    print("ready", flush=True)
    told = write_until(sys.argv[1], core)
    compare("informer", by_informer, told)
    compare("watch", by_watch, told)
    assert informer.cache.list() == [], informer.cache.list_keys()
    ended.set()
    assert len(told) > 20, f"only {len(told)} changes were made"
    print("every change was seen once and in order, by the informer and by the watch")


main()
