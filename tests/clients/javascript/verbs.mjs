// What the official JavaScript client offers, each once against a cluster, with its outcome checked.
//
// Works in the namespace $NS of the cluster of $KUBECONFIG. Prints a line per group; the first outcome that is not as
// told ends the program with an error. The restart of a server is restart.mjs's.
import assert from 'node:assert/strict';
import { mkdtemp, writeFile, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { k8s, kubeconfig, core, until, NS } from './client.mjs';

const IMAGE = 'keelson.local/web:1';
const objects = k8s.KubernetesObjectApi.makeApiClient(kubeconfig);
const apps = kubeconfig.makeApiClient(k8s.AppsV1Api);

/** The error of a call that is to fail with this HTTP status. */
async function refused(code, call) {
    try {
        await call();
    } catch (error) {
        assert.equal(error.code, code, `${error.code} instead of ${code}: ${error.body ?? error}`);
        return JSON.parse(error.body);
    }
    throw new Error(`a call succeeded instead of failing with ${code}`);
}

function configMap(name, data, labels) {
    return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: NS, labels }, data };
}

/** All that a stream carries until its end, as text. */
function text(stream) {
    return new Promise((resolve, reject) => {
        const chunks = [];
        stream.on('data', (chunk) => chunks.push(chunk));
        stream.on('end', () => resolve(Buffer.concat(chunks).toString()));
        stream.on('error', reject);
    });
}

async function createAndReplace() {
    const made = await core.createNamespacedConfigMap({ namespace: NS, body: configMap('one', { k: 'v' }) });
    assert.ok(made.metadata.uid);
    const clash = await refused(409, () =>
        core.createNamespacedConfigMap({ namespace: NS, body: configMap('one', {}) }));
    assert.equal(clash.reason, 'AlreadyExists');
    await core.createNamespacedConfigMap({ namespace: NS, body: configMap('dry', {}), dryRun: 'All' });
    await refused(404, () => core.readNamespacedConfigMap({ name: 'dry', namespace: NS }));
    const current = await core.readNamespacedConfigMap({ name: 'one', namespace: NS });
    current.data.k = 'w';
    const replaced = await core.replaceNamespacedConfigMap({ name: 'one', namespace: NS, body: current });
    assert.deepEqual(replaced.data, { k: 'w' });
    const stale = await refused(409, () =>
        core.replaceNamespacedConfigMap({ name: 'one', namespace: NS, body: current }));
    assert.equal(stale.reason, 'Conflict');
    const invalid = await refused(422, () =>
        core.createNamespacedConfigMap({ namespace: NS, body: configMap('Not_A_Name', {}) }));
    assert.equal(invalid.details.causes[0].field, 'metadata.name');
}

async function patchInEveryForm() {
    const form = (strategy) => k8s.setHeaderOptions('Content-Type', strategy);
    const patch = (strategy, body, more) =>
        core.patchNamespacedConfigMap({ name: 'one', namespace: NS, body, ...more }, form(strategy));
    const json = await patch(k8s.PatchStrategy.JsonPatch, [{ op: 'add', path: '/data/json', value: '1' }]);
    assert.deepEqual(json.data, { k: 'w', json: '1' });
    await refused(422, () => patch(k8s.PatchStrategy.JsonPatch, [{ op: 'test', path: '/data/json', value: '2' }]));
    const merge = await patch(k8s.PatchStrategy.MergePatch, { data: { json: null, merge: '2' } });
    assert.deepEqual(merge.data, { k: 'w', merge: '2' });

    await apps.createNamespacedDeployment({
        namespace: NS,
        body: {
            metadata: { name: 'patched' },
            spec: {
                replicas: 0,
                selector: { matchLabels: { app: 'patched' } },
                template: {
                    metadata: { labels: { app: 'patched' } },
                    spec: { containers: [{ name: 'web', image: IMAGE }] },
                },
            },
        },
    });
    // The list is merged by the containers' names.
    const body = { spec: { template: { spec: { containers: [{ name: 'side', image: IMAGE }] } } } };
    const strategic = await apps.patchNamespacedDeployment(
        { name: 'patched', namespace: NS, body }, form(k8s.PatchStrategy.StrategicMergePatch));
    assert.deepEqual(strategic.spec.template.spec.containers.map((one) => one.name).sort(), ['side', 'web']);

    const apply = (manager, value, force) => objects.patch(
        configMap('applied', { k: value }), undefined, undefined, manager, force, k8s.PatchStrategy.ServerSideApply);
    const applied = await apply('first', 'a');
    assert.equal(applied.metadata.managedFields[0].operation, 'Apply');
    const conflict = await refused(409, () => apply('second', 'b'));
    assert.equal(conflict.details.causes[0].field, '.data.k');
    assert.deepEqual((await apply('second', 'b', true)).data, { k: 'b' });
}

async function pageThroughAList() {
    for (let i = 0; i < 7; i++) await objects.create(configMap(`page-${i}`, {}, { set: 'pages' }));
    const names = [];
    let pages = 0;
    let next;
    do {
        const page = await core.listNamespacedConfigMap(
            { namespace: NS, labelSelector: 'set=pages', limit: 3, _continue: next });
        names.push(...page.items.map((one) => one.metadata.name));
        next = page.metadata._continue;
        pages++;
    } while (next);
    assert.deepEqual(names, [0, 1, 2, 3, 4, 5, 6].map((i) => `page-${i}`));
    assert.equal(pages, 3);
}

async function watchAndResume() {
    const path = `/api/v1/namespaces/${NS}/configmaps`;
    const watch = async (resourceVersion, count) => {
        const seen = [];
        let last, done, request;
        const ended = new Promise((resolve) => { done = resolve; });
        request = await new k8s.Watch(kubeconfig).watch(
            path,
            { labelSelector: 'set=watched', resourceVersion, allowWatchBookmarks: true },
            (type, object) => {
                if (type === 'BOOKMARK' || seen.length === count) return;
                seen.push([type, object.data.i]);
                last = object.metadata.resourceVersion;
                if (seen.length === count) done();
            },
            done);
        await ended;
        request.abort();
        return { seen, last };
    };
    const start = await core.listNamespacedConfigMap({ namespace: NS, labelSelector: 'set=watched' });
    await objects.create(configMap('watched', { i: '0' }, { set: 'watched' }));
    await objects.patch(configMap('watched', { i: '1' }));
    const first = await watch(start.metadata.resourceVersion, 1);
    await core.deleteNamespacedConfigMap({ name: 'watched', namespace: NS });
    const rest = await watch(first.last, 2);
    assert.deepEqual([...first.seen, ...rest.seen], [['ADDED', '0'], ['MODIFIED', '1'], ['DELETED', '1']]);
}

async function runPod() {
    await core.createNamespacedPod({
        namespace: NS,
        body: {
            metadata: { name: 'box' },
            spec: { terminationGracePeriodSeconds: 1, containers: [{ name: 'box', image: IMAGE }] },
        },
    });
    await until('the pod is ready', async () => {
        const pod = await core.readNamespacedPod({ name: 'box', namespace: NS });
        return pod.status.conditions?.some((one) => one.type === 'Ready' && one.status === 'True');
    });
}

/** Runs a command in the pod; its output, errors and final status. */
async function run(command, input, tty = false) {
    const [stdout, stderr] = [new PassThrough(), tty ? null : new PassThrough()];
    const outputs = Promise.all([text(stdout), stderr ? text(stderr) : '']);
    const status = await new Promise((resolve, reject) => {
        new k8s.Exec(kubeconfig).exec(NS, 'box', 'box', command, stdout, stderr, input, tty, resolve).catch(reject);
    });
    const [out, err] = await outputs;
    return { out, err, status };
}

async function execInAPod() {
    const plain = await run(['sh', '-c', 'echo out; echo err >&2; exit 7'], null);
    assert.deepEqual([plain.out, plain.err], ['out\n', 'err\n']);
    assert.equal(plain.status.status, 'Failure');
    assert.deepEqual(plain.status.details.causes, [{ reason: 'ExitCode', message: '7' }]);
    const input = new PassThrough();
    input.end('to the end');
    const cat = await run(['cat'], input);
    assert.deepEqual([cat.out, cat.status.status], ['to the end', 'Success']);
    const terminal = await run(['tty'], null, true);
    assert.match(terminal.out, /^\/dev\/pts\/\d+\r\n$/);
}

async function copyAndForward() {
    const here = await mkdtemp(join(tmpdir(), 'keelson-cp-'));
    await mkdir(join(here, 'from'));
    await writeFile(join(here, 'from', 'file'), 'content');
    // The other direction packs with gzip and unpacks without: this client cannot.
    await new k8s.Cp(kubeconfig).cpToPod(NS, 'box', 'box', join(here, 'from'), '/tmp');
    await until('the file is in the pod', async () => (await run(['cat', '/tmp/file'], null)).out === 'content');

    const [output, errors, input] = [new PassThrough(), new PassThrough(), new PassThrough()];
    let answer = '';
    output.on('data', (chunk) => { answer += chunk; });
    const socket = await new k8s.PortForward(kubeconfig).portForward(NS, 'box', [80], output, errors, input);
    input.write('GET / HTTP/1.0\r\n\r\n');
    await until('the page comes through the port', async () => answer.endsWith('Hello from box\n'));
    socket.close();
}

async function attachAndLogs() {
    const script = 'sleep 0.5; while read line; do echo got $line; [ $line = end ] && exit 0; done';
    await core.createNamespacedPod({
        namespace: NS,
        body: {
            metadata: { name: 'talk' },
            spec: {
                restartPolicy: 'Never',
                containers: [{ name: 'talk', image: IMAGE, stdin: true, stdinOnce: true, command: ['sh', '-c', script] }],
            },
        },
    });
    const phase = async () => (await core.readNamespacedPod({ name: 'talk', namespace: NS })).status.phase;
    await until('the pod runs', async () => (await phase()) === 'Running');
    const [output, input] = [new PassThrough(), new PassThrough()];
    await new k8s.Attach(kubeconfig).attach(NS, 'talk', 'talk', output, null, input, false);
    const followed = new PassThrough();
    const lines = text(followed);
    await new k8s.Log(kubeconfig).log(NS, 'talk', 'talk', followed, { follow: true });
    input.write('one\nend\n');
    assert.equal(await lines, 'got one\ngot end\n');
    await until('the pod is done', async () => (await phase()) === 'Succeeded');
    const last = new PassThrough();
    const [line] = await Promise.all([
        text(last), new k8s.Log(kubeconfig).log(NS, 'talk', 'talk', last, { tailLines: 1 })]);
    assert.equal(line, 'got end\n');
}

async function informer() {
    const seen = [];
    const list = () => core.listNamespacedConfigMap({ namespace: NS, labelSelector: 'set=informed' });
    const path = `/api/v1/namespaces/${NS}/configmaps`;
    const followed = k8s.makeInformer(kubeconfig, path, list, 'set=informed');
    for (const kind of ['add', 'update', 'delete']) followed.on(kind, (one) => seen.push([kind, one.data.i]));
    await objects.create(configMap('informed', { i: '0' }, { set: 'informed' }));
    await followed.start();
    await objects.patch(configMap('informed', { i: '1' }));
    await until('the change is in the cache', () => followed.get('informed', NS)?.data.i === '1');
    await core.deleteNamespacedConfigMap({ name: 'informed', namespace: NS });
    await until('three changes are seen', () => seen.length === 3);
    await followed.stop();
    assert.deepEqual(seen, [['add', '0'], ['update', '1'], ['delete', '1']]);
}

async function deleteACollection() {
    await core.deleteCollectionNamespacedConfigMap({ namespace: NS, labelSelector: 'set=pages' });
    const left = await objects.list('v1', 'ConfigMap', NS, undefined, undefined, undefined, undefined, 'set');
    assert.deepEqual(left.items, []);
}

const groups = {
    'create and replace': createAndReplace,
    'patch in every form': patchInEveryForm,
    'page through a list': pageThroughAList,
    'watch and resume': watchAndResume,
    'exec in a pod': () => runPod().then(execInAPod),
    'copy into a pod, forward a port': copyAndForward,
    'attach, follow logs': attachAndLogs,
    'informer': informer,
    'delete a collection': deleteACollection,
};
for (const [name, group] of Object.entries(groups)) {
    await group();
    console.log(name);
}
process.exit(0);
