import { closeDoor } from '../shut-out.ts';
import type { Step } from '../step.ts';

/** All logins of the tenant are closed. Sessions that are open, and the data, stay. */
export const disableLogin: Step = {
  name: 'disable_login',

  async run({ cluster, database, signal }) {
    await cluster.admin((client) => closeDoor(client, database), signal);
  },
};
