/**
 * `npm run -s verify-audit` checks the audit log against its hash chain, and names what was changed,
 * removed or slipped in. With the head that an earlier check printed (`-- 123:9f86…`) it also finds a
 * chain that somebody wrote anew as a whole.
 */
import { verifyAuditChain, type ChainPlace } from '../control/audit-chain.ts';
import { SettingError } from '../errors.ts';
import { withControl } from './with-control.ts';

await withControl('verify-audit', async ({ control }) => {
  const noted = process.argv[2] === undefined ? undefined : parseHead(process.argv[2]);
  const { anchor, checked, findings, head } = await verifyAuditChain(control, noted);
  for (const { problem } of findings) console.error(problem);
  const pruned = anchor.sequence === 0 ? '' : `; the ${anchor.sequence} before were pruned`;
  if (findings.length === 0) console.log(`The audit log is intact: ${checked} entries${pruned}.`);
  else
    console.error(
      `The audit log was tampered with: ${findings.length} findings in ${checked} entries${pruned}.`,
    );
  console.log(`Head: ${head.sequence}:${head.hash}`);
  process.exitCode = findings.length === 0 ? 0 : 1;
});

function parseHead(text: string): ChainPlace {
  const [, sequence, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text) ?? [];
  if (sequence === undefined || hash === undefined) {
    throw new SettingError('argument', 'must be a head as this command prints it: 123:9f86…');
  }
  return { sequence: Number(sequence), hash };
}
