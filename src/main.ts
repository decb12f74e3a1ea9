import { once } from 'node:events';
import pino, { type Logger } from 'pino';
import pretty from 'pino-pretty';
import { startApp, type App } from './app.ts';
import { ConfigError, readConfig, type Config } from './config.ts';
import { SettingError } from './errors.ts';

const config = configuration();
const log = createLogger(config);
// Listened for from here on: a signal during the start must not leave its server behind.
const stopping = stopOnSignals(log);
const app = await start(config, log, stopping);
if (!stopping.aborted) {
  announce(app, config);
  await once(stopping, 'abort');
}
await stop(app, log);

function configuration(): Config {
  try {
    return readConfig();
  } catch (error) {
    if (error instanceof ConfigError) fail(error.message);
    throw error;
  }
}

/** Aborts at the first signal that asks for an end. */
function stopOnSignals(logger: Logger): AbortSignal {
  const ending = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (ending.signal.aborted) return; // the terminal and npm both pass it on
      logger.info({ signal }, 'stopping');
      ending.abort();
    });
  }
  return ending.signal;
}

async function start(settings: Config, logger: Logger, signal: AbortSignal): Promise<App> {
  try {
    return await startApp(settings, { log: logger, signal });
  } catch (error) {
    if (error === signal.reason) process.exit(0);
    if (error instanceof SettingError) fail(error.message);
    logger.fatal({ err: error }, 'the start failed');
    process.exit(1);
  }
}

async function stop(running: App, logger: Logger): Promise<never> {
  try {
    await running.close();
  } catch (error) {
    logger.fatal({ err: error }, 'stopping failed');
    process.exit(1);
  }
  process.exit(0);
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}

function createLogger({ log: { level, format } }: Config): Logger {
  const options = {
    level,
    redact: {
      paths: ['*.password', '*.authorization', '*.apiKey', '*.connectionString', 'err.parameters'],
      censor: '***',
    },
  };
  if (format === 'json') return pino(options);
  return pino(
    options,
    pretty({
      ignore: 'pid,hostname',
      translateTime: 'SYS:HH:MM:ss.l',
      singleLine: true,
      sync: true,
    }),
  );
}

function announce({ url }: App, { server, database }: Config): void {
  console.log(`
Tenantry is ready at ${url}
  GraphiQL   ${server.graphiql ? `${url}/graphql` : 'off (GRAPHIQL)'}
  REST docs  ${url}/docs
  Portal     ${server.graphiql ? `${url}/portal` : 'off (GRAPHIQL)'}
  Health     ${url}/readyz
  Data       ${database.url === null ? database.dataDir : 'on the server in DATABASE_URL'}

Make a tenant:
  curl -sS ${url}/api/v1/tenants -H 'Content-Type: application/json' \\
    -d '{"name": "acme_corp", "environment": "production"}'
`);
}
