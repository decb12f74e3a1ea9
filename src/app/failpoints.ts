// What this instance does wrong on purpose.
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import { SettingError } from '../errors.ts';
import { createFailpoints, failpointNames, noFailpoints } from '../provisioning/failpoints.ts';
import type { Failpoints } from '../provisioning/step.ts';

/** What FAILPOINTS says: nothing as a rule. */
export function configuredFailpoints({ failpoints: { rules } }: Config, log: Logger): Failpoints {
  if (rules === null || rules.length === 0) return noFailpoints;
  const known = failpointNames();
  const unknown = rules.find(({ point }) => !known.has(point));
  if (unknown !== undefined) {
    const message = `${unknown.point} is none of ${[...known].join(', ')}`;
    throw new SettingError('FAILPOINTS', message);
  }
  log.warn({ rules }, 'FAILPOINTS is set: this instance fails on purpose');
  return createFailpoints(rules, log);
}
