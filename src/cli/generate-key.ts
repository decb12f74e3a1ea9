/** `npm run -s generate-key`: prints one key for ENCRYPTION_KEY, and nothing else. */
import { generateEncryptionKey } from '../crypto/envelope.ts';

console.log(generateEncryptionKey());
