// The official JavaScript client's informer while the API server is killed and comes back.
//
//     restart.mjs STOP_FILE
//
// A writer creates, changes and deletes ConfigMaps one after another until STOP_FILE exists, trying each write again
// until it is answered. The informer, started again after each error as the client's documentation says, is to see
// every change once and in order. Prints "ready" when it follows, and at the end what was compared.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { k8s, kubeconfig, core, until, NS, WAIT_MS } from './client.mjs';

const stopFile = process.argv[2];
const CHANGES = 3;
const SELECTOR = 'restart=javascript';
// The statuses of a server that is starting or ending; anything else is an error of ours.
const NOT_NOW = [429, 500, 503];

/** Repeats a write until the server answers; `done` is the status that says an unanswered try took effect. */
async function untilAnswered(call, done) {
    for (const end = Date.now() + WAIT_MS; ; await pause(50)) {
        try {
            return await call();
        } catch (error) {
            if (error.code === done) return undefined;
            const answered = Number.isInteger(error.code);
            if ((answered && !NOT_NOW.includes(error.code)) || Date.now() > end) throw error;
        }
    }
}

/** Writes rounds of one object each; what the informer is to see. */
async function writeUntil() {
    const told = [];
    const merge = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch);
    for (let turn = 0; !existsSync(stopFile); turn++) {
        const name = `javascript-${turn}`;
        const object = { namespace: NS, name };
        const body = { metadata: { name, labels: { restart: 'javascript' } }, data: { i: '0' } };
        await untilAnswered(() => core.createNamespacedConfigMap({ namespace: NS, body }), 409);
        told.push([name, 'add', '0']);
        for (let i = 1; i <= CHANGES; i++) {
            // Writing the same value twice changes nothing, so a write that was tried again is seen once.
            const patch = { data: { i: String(i) } };
            await untilAnswered(() => core.patchNamespacedConfigMap({ ...object, body: patch }, merge));
            told.push([name, 'update', String(i)]);
        }
        await untilAnswered(() => core.deleteNamespacedConfigMap(object), 404);
        told.push([name, 'delete', String(CHANGES)]);
    }
    return told;
}

const seen = [];
const path = `/api/v1/namespaces/${NS}/configmaps`;
const list = () => core.listNamespacedConfigMap({ namespace: NS, labelSelector: SELECTOR });
const informer = k8s.makeInformer(kubeconfig, path, list, SELECTOR);
for (const kind of ['add', 'update', 'delete']) {
    informer.on(kind, (one) => seen.push([one.metadata.name, kind, one.data.i]));
}
informer.on('error', () => setTimeout(() => informer.start(), 100));
await informer.start();
console.log('ready');
const told = await writeUntil();
await until('every change is seen', () => seen.length >= told.length);
assert.deepEqual(seen, told);
assert.deepEqual(informer.list(), []);
assert.ok(told.length > 20, `only ${told.length} changes were made`);
console.log('every change was seen once and in order, by the informer');
process.exit(0);
