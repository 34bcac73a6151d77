"""What the official Python client offers, each once against a cluster, with its outcome checked.

Works in the namespace $NS of the cluster of $KUBECONFIG. Prints a line per group; the first outcome that is not
as told ends the program with an error. The restart of a server is restart.py's, leader election candidate.py's.
"""

import os
import threading
import time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

NS = os.environ["NS"]
IMAGE = "keelson.local/web:1"
WAIT_S = 60


def refused(status, call, *arguments, **options):
    """The error of a call that is to fail with this HTTP status."""
    try:
        call(*arguments, **options)
    except ApiException as error:
        assert error.status == status, f"{error.status} instead of {status}: {error.body}"
        return error
    raise AssertionError(f"{call.__name__} succeeded instead of failing with {status}")


def config_map(name, data, labels=None):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels), data=data)


def create_and_replace(core):
    made = core.create_namespaced_config_map(NS, config_map("one", {"k": "v"}), field_manager="python")
    assert made.metadata.managed_fields[0].manager == "python", made.metadata.managed_fields
    refused(409, core.create_namespaced_config_map, NS, config_map("one", {}))
    generated = core.create_namespaced_config_map(
        NS, client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="gen-"))
    )
    assert generated.metadata.name.startswith("gen-") and len(generated.metadata.name) == 9
    dry = core.create_namespaced_config_map(NS, config_map("dry", {}), dry_run="All")
    assert dry.metadata.uid
    refused(404, core.read_namespaced_config_map, "dry", NS)

    current = core.read_namespaced_config_map("one", NS)
    current.data = {"k": "w"}
    replaced = core.replace_namespaced_config_map("one", NS, current)
    assert replaced.data == {"k": "w"} and replaced.metadata.uid == made.metadata.uid
    refused(409, core.replace_namespaced_config_map, "one", NS, current)
    error = refused(422, core.create_namespaced_config_map, NS, config_map("Not_A_Name", {}))
    assert '"field":"metadata.name"' in error.body, error.body
    strict = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "strict"}, "dota": {}}
    error = refused(400, core.create_namespaced_config_map, NS, strict, field_validation="Strict")
    assert 'unknown field \\"dota\\"' in error.body, error.body


def patch_in_every_form(core, apps):
    patch = core.patch_namespaced_config_map
    json = patch("one", NS, [{"op": "add", "path": "/data/json", "value": "1"}])
    assert json.data == {"k": "w", "json": "1"}, json.data
    refused(422, patch, "one", NS, [{"op": "test", "path": "/data/json", "value": "2"}])
    merge = patch("one", NS, {"data": {"json": None, "merge": "2"}}, _content_type="application/merge-patch+json")
    assert merge.data == {"k": "w", "merge": "2"}, merge.data

    container = {"name": "web", "image": IMAGE}
    apps.create_namespaced_deployment(NS, {
        "metadata": {"name": "patched"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "patched"}},
            "template": {"metadata": {"labels": {"app": "patched"}}, "spec": {"containers": [container]}},
        },
    })
    # A dict goes as a strategic merge patch: the list is merged by the containers' names.
    side = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": IMAGE}]}}}}
    strategic = apps.patch_namespaced_deployment("patched", NS, side)
    names = [one.name for one in strategic.spec.template.spec.containers]
    assert sorted(names) == ["side", "web"], names
    scale = apps.patch_namespaced_deployment_scale("patched", NS, {"spec": {"replicas": 0}})
    # A zero is left out of this kind on the wire.
    assert scale.spec.replicas is None and scale.status.selector == "app=patched", scale

    def apply(manager, value, **options):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": value}}
        return patch("applied", NS, body, field_manager=manager, _content_type="application/apply-patch+yaml", **options)

    assert apply("first", "a").metadata.managed_fields[0].operation == "Apply"
    error = refused(409, apply, "second", "b")
    assert 'conflict with \\"first\\": .data.k' in error.body, error.body
    assert apply("second", "b", force=True).data == {"k": "b"}


def page_through_a_list(core):
    for i in range(7):
        core.create_namespaced_config_map(NS, config_map(f"page-{i}", {"i": str(i)}, {"set": "pages"}))
    names, versions, token, pages = [], set(), None, 0
    while True:
        page = core.list_namespaced_config_map(NS, label_selector="set=pages", limit=3, _continue=token)
        names += [one.metadata.name for one in page.items]
        versions.add(page.metadata.resource_version)
        pages += 1
        token = page.metadata._continue
        if pages == 1:
            # Pages show the state of the first, whatever is written between.
            core.create_namespaced_config_map(NS, config_map("page-9", {}, {"set": "pages"}))
        if not token:
            break
    assert names == [f"page-{i}" for i in range(7)] and pages == 3, names
    assert len(versions) == 1, versions
    refused(400, core.list_namespaced_config_map, NS, limit=3, _continue="nonsense")


def watch_and_resume(core):
    selector = "set=watched"
    start = core.list_namespaced_config_map(NS, label_selector=selector).metadata.resource_version
    core.create_namespaced_config_map(NS, config_map("watched", {"i": "0"}, {"set": "watched"}))
    core.patch_namespaced_config_map("watched", NS, {"data": {"i": "1"}})

    def events(count, version):
        seen, watcher = [], watch.Watch()
        options = {"label_selector": selector, "resource_version": version, "timeout_seconds": WAIT_S}
        for event in watcher.stream(core.list_namespaced_config_map, NS, **options):
            seen.append((event["type"], event["object"].data["i"]))
            if len(seen) == count:
                watcher.stop()
        return seen, watcher.resource_version

    first, version = events(1, start)
    core.delete_namespaced_config_map("watched", NS)
    rest, _ = events(2, version)
    assert first + rest == [("ADDED", "0"), ("MODIFIED", "1"), ("DELETED", "1")], (first, rest)


def running_pod(core):
    pod = {
        "metadata": {"name": "box", "labels": {"app": "box"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "box", "image": IMAGE}]},
    }
    core.create_namespaced_pod(NS, pod)
    for event in watch.Watch().stream(core.list_namespaced_pod, NS, field_selector="metadata.name=box", timeout_seconds=WAIT_S):
        conditions = {one.type: one.status for one in event["object"].status.conditions or []}
        if conditions.get("Ready") == "True":
            return
    raise AssertionError(f"the pod is not ready within {WAIT_S} s")


def exec_in_a_pod(core):
    def run(*command, **options):
        return stream(core.connect_get_namespaced_pod_exec, "box", NS, command=list(command), **options)

    # Two streams: their order is nobody's promise.
    both = run("sh", "-c", "echo out; echo err >&2", stdout=True, stderr=True)
    assert sorted(both.split()) == ["err", "out"], both
    session = run("sh", "-c", "read line; echo got $line; exit 7", stdin=True, stdout=True, stderr=True, _preload_content=False)
    session.write_stdin("typed\n")
    session.run_forever(timeout=WAIT_S)
    assert session.read_stdout() == "got typed\n"
    assert session.returncode == 7, session.returncode
    terminal = run("sh", "-c", "tty", stdout=True, tty=True)
    assert terminal.startswith("/dev/"), terminal
    closing = run("cat", stdin=True, stdout=True, _preload_content=False)
    assert closing.subprotocol == "v5.channel.k8s.io", closing.subprotocol
    closing.write_stdin("to the end")
    closing.close_channel(0)
    closing.run_forever(timeout=WAIT_S)
    assert (closing.read_stdout(), closing.returncode) == ("to the end", 0)

    forward = portforward(core.connect_get_namespaced_pod_portforward, "box", NS, ports="80")
    socket = forward.socket(80)
    socket.setblocking(True)
    socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while data := socket.recv(4096):
        answer += data
    assert answer.endswith(b"Hello from box\n") and forward.error(80) is None, answer


def read_logs(core):
    script = "for i in 1 2 3; do echo line $i; sleep 0.2; done"
    core.create_namespaced_pod(NS, {
        "metadata": {"name": "talk"},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "talk", "image": IMAGE, "command": ["sh", "-c", script]}]},
    })
    end = time.monotonic() + WAIT_S
    while core.read_namespaced_pod("talk", NS).status.phase not in ("Running", "Succeeded"):
        assert time.monotonic() < end, "the pod does not start"
        time.sleep(0.05)
    followed = list(watch.Watch().stream(core.read_namespaced_pod_log, "talk", NS))
    assert followed == ["line 1", "line 2", "line 3"], followed
    # Read as bytes: the decoded form of this client is the text of a bytes literal.
    raw = core.read_namespaced_pod_log("talk", NS, tail_lines=1, _preload_content=False)
    assert raw.data == b"line 3\n", raw.data
    refused(400, core.read_namespaced_pod_log, "talk", NS, container="none")


def ask_and_evict(core):
    token = core.create_namespaced_service_account_token(
        "default", NS, {"spec": {"audiences": ["https://kubernetes.default.svc.cluster.local"], "expirationSeconds": 600}}
    )
    review = client.AuthenticationV1Api().create_token_review({"spec": {"token": token.status.token}})
    assert review.status.user.username == f"system:serviceaccount:{NS}:default", review.status
    may = client.AuthorizationV1Api().create_self_subject_access_review(
        {"spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": NS}}}
    )
    assert may.status.allowed
    core.create_namespaced_pod_eviction("box", NS, {"metadata": {"name": "box"}})
    for event in watch.Watch().stream(core.list_namespaced_pod, NS, field_selector="metadata.name=box", timeout_seconds=WAIT_S):
        if event["type"] == "DELETED":
            break
    refused(404, core.read_namespaced_pod, "box", NS)


def dynamic_client(api):
    dynamic_api = dynamic.DynamicClient(api)
    maps = dynamic_api.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dynamic"}, "data": {"k": "v"}}
    applied = maps.server_side_apply(body=body, namespace=NS, field_manager="dynamic")
    assert applied.data.k == "v"
    seen = []

    def follow():
        for event in maps.watch(namespace=NS, name="dynamic", timeout=WAIT_S):
            seen.append(event["type"])
            if event["type"] == "DELETED":
                return

    follower = threading.Thread(target=follow)
    follower.start()
    while not seen:
        time.sleep(0.02)
    maps.patch(body={"metadata": {"name": "dynamic"}, "data": {"k": "w"}}, namespace=NS)
    maps.delete(name="dynamic", namespace=NS)
    follower.join(WAIT_S)
    assert seen == ["ADDED", "MODIFIED", "DELETED"], seen
    deployments = dynamic_api.resources.get(api_version="apps/v1", kind="Deployment")
    assert deployments.get(name="patched", namespace=NS).spec.replicas == 0


def from_yaml_and_gone(api, core):
    objects = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"yaml-{i}", "labels": {"set": "yaml"}}} for i in range(3)]
    for one in objects:
        utils.create_from_dict(api, one, namespace=NS)
    core.delete_collection_namespaced_config_map(NS, label_selector="set in (yaml,pages)")
    left = core.list_namespaced_config_map(NS, label_selector="set").items
    assert left == [], left


def main():
    config.load_kube_config()
    api, core, apps = client.ApiClient(), client.CoreV1Api(), client.AppsV1Api()
    running_pod(core)
    for group, call in {
        "create and replace": lambda: create_and_replace(core),
        "patch in every form": lambda: patch_in_every_form(core, apps),
        "page through a list": lambda: page_through_a_list(core),
        "watch and resume": lambda: watch_and_resume(core),
        "exec, attach to a terminal, forward a port": lambda: exec_in_a_pod(core),
        "read logs": lambda: read_logs(core),
        "ask for tokens and access, evict": lambda: ask_and_evict(core),
        "dynamic client": lambda: dynamic_client(api),
        "from manifests, and delete a collection": lambda: from_yaml_and_gone(api, core),
    }.items():
        call()
        print(group, flush=True)


main()
