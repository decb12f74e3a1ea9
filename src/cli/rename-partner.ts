/**
 * `npm run -s rename-partner -- OLD NEW [--merge]` gives everything that belongs to a partner another name,
 * such as `acme` that of the subject of tokens without a partner claim, `sub:acme`.
 */
import { parseArgs } from 'node:util';
import { renamePartner, type PartnerRows, type RenameResult } from '../control/partners.ts';
import { isNameOfPartner, platformPartner } from '../provisioning/partner-names.ts';
import { withControl } from './with-control.ts';

const usage = `Usage: npm run -s rename-partner -- OLD NEW [--merge]
  OLD      the partner's name now, as Tenant.partner shows it
  NEW      its name from now on; for tokens without a partner claim: sub: and their subject
  --merge  NEW may have tenants already: both partners become one, for good`;

/** What the command line asks for; a text: what is wrong with it. */
function readArguments(): { from: string; to: string; merge: boolean } | string {
  try {
    const options = { merge: { type: 'boolean', default: false } } as const;
    const { positionals, values } = parseArgs({ allowPositionals: true, options });
    const [from, to] = positionals;
    if (from === undefined || to === undefined || positionals.length > 2) {
      return 'Two names are needed';
    }
    if (from === to) return 'Both names are the same';
    if ([from, to].includes(platformPartner)) {
      return `${platformPartner} is the operator's own: it is neither renamed nor taken`;
    }
    return isNameOfPartner(to) ? { from, to, merge: values.merge } : 'NEW is no name for a partner';
  } catch (error) {
    return (error as Error).message;
  }
}

function fail(message: string): void {
  console.error(message);
  process.exitCode = 1;
}

function listed({ tenants, operations, batches }: PartnerRows): string {
  return `${tenants} tenants, ${operations} operations and ${batches} batches`;
}

function tell(from: string, to: string, result: RenameResult): void {
  if ('renamed' in result) {
    const { idempotencyKeys } = result.renamed;
    console.log(
      `${from} is now ${to}: ${listed(result.renamed)}, ${idempotencyKeys} idempotency keys.`,
    );
    console.log('Entries of the audit log keep the old name; the partner sees them all the same.');
  } else if (result.problem === 'UNKNOWN') {
    fail(`Nothing belongs to ${from}.`);
  } else {
    fail(`${to} has ${listed(result.rows)}: with --merge both partners become one, for good.`);
  }
}

const asked = readArguments();
if (typeof asked === 'string') fail(`${asked}\n\n${usage}`);
else {
  await withControl('rename-partner', async ({ control }) => {
    const record = {
      actor: 'rename-partner',
      partner: platformPartner,
      ipAddress: null,
      fromStatus: null,
      toStatus: null,
      outcome: 'SUCCEEDED',
      requestId: null,
    } as const;
    tell(asked.from, asked.to, await renamePartner(control, { ...asked, record }));
  });
}
