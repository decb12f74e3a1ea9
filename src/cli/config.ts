/** `npm run config`: prints the settings in force, secrets masked; or what is wrong with them. */
import { ConfigError, describeConfig, readConfig } from '../config.ts';

try {
  console.log(describeConfig(readConfig()));
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
