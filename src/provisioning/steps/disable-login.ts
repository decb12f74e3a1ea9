import { endSessions, setLogin } from '../../postgres/roles.ts';
import type { Step } from '../step.ts';

/** Nobody can log in as the tenant any more, and its sessions end. The data stays. */
export const disableLogin: Step = {
  name: 'disable_login',

  async run({ cluster, database, signal }) {
    await cluster.admin(async (client) => {
      // First the door, then who is inside: nobody slips in between.
      await setLogin(client, database.loginRole, false);
      await endSessions(client, database.loginRole);
    }, signal);
  },

  async compensate({ cluster, database, signal, tenant }) {
    if (tenant.status !== 'ACTIVE') return; // a suspended tenant's login stays disabled
    await cluster.admin((client) => setLogin(client, database.loginRole, true), signal);
  },
};
