import type { TestProject } from 'vitest/node';
import { openTestServer } from './server.ts';
import { makeControlTemplate } from './control-template.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Superuser's connection string of the server that all test files share. */
    readonly serverUrl: string;
    /** Database with a migrated, empty control plane, to be cloned. */
    readonly controlTemplate: string;
  }
}

/** Starts one PostgreSQL server for the whole run, and migrates one control plane to clone. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await openTestServer();
  const template = await makeControlTemplate(server.url);
  project.provide('serverUrl', server.url);
  project.provide('controlTemplate', template.name);
  return async () => {
    await template.drop();
    await server.close();
  };
}
