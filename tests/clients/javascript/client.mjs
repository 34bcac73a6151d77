// The official JavaScript client, from the directory $CLIENTS that install.sh filled, and what both programs share.
import { setTimeout as pause } from 'node:timers/promises';

const { CLIENTS, NS: namespace } = process.env;
if (!CLIENTS || !namespace) {
    throw new Error('CLIENTS (where install.sh put the clients) and NS (a namespace) must be set');
}
export const k8s = await import(`${CLIENTS}/javascript/node_modules/@kubernetes/client-node/dist/index.js`);
export const NS = namespace;
export const WAIT_MS = 60_000;

export const kubeconfig = new k8s.KubeConfig();
kubeconfig.loadFromDefault();
export const core = kubeconfig.makeApiClient(k8s.CoreV1Api);

/** Waits until `done` answers something true, and answers that. */
export async function until(what, done) {
    for (const end = Date.now() + WAIT_MS; Date.now() < end; await pause(20)) {
        const outcome = await done();
        if (outcome) return outcome;
    }
    throw new Error(`${what}: not within ${WAIT_MS} ms`);
}
