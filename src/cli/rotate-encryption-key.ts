/**
 * `npm run -s rotate-encryption-key` seals everything anew under ENCRYPTION_KEY that is sealed under one
 * of ENCRYPTION_KEYS_PREVIOUS, or in the older form. Gateways may run; stopped half-way, run it again.
 */
import { rotateSealedValues } from '../provisioning/key-rotation.ts';
import { keyRingOf, withControl } from './with-control.ts';

await withControl('rotate-encryption-key', async ({ control, config }) => {
  const keyRing = await keyRingOf(config);
  console.log(`Sealing under key ${keyRing.currentKeyId}.`);
  const rotations = await rotateSealedValues(control, keyRing);
  const otherKeys = new Set<string>();
  for (const { name, resealed, unopened, byKey } of rotations) {
    const counts = Array.from(byKey, ([keyId, count]) => `${count} under ${nameOf(keyId)}`);
    console.log(`${name}: ${resealed} sealed anew; now ${counts.join(', ') || 'none'}`);
    if (unopened > 0) console.error(`${name}: ${unopened} cannot be opened`);
    for (const keyId of byKey.keys()) if (keyId !== keyRing.currentKeyId) otherKeys.add(keyId);
  }
  if (otherKeys.size === 0) {
    console.log('Everything is sealed under this key: no previous key is needed any more.');
    return;
  }
  const names = [...otherKeys].map(nameOf).join(', ');
  console.error(
    `Still sealed under ${names}: put the missing keys into ENCRYPTION_KEYS_PREVIOUS, see that no gateway seals with an older one, and run it again.`,
  );
  process.exitCode = 1;
});

function nameOf(keyId: string): string {
  return keyId === '' ? 'an unnamed key (the older form)' : `key ${keyId}`;
}
