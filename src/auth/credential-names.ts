/** The names under which credentials are taken, in lower case. */
const credentialNames = ['authorization', 'x-api-key'] as const;
export type CredentialName = (typeof credentialNames)[number];

/** Finds the name under which something is taken, whatever its case; null: it is no credential. */
export function credentialName(name: string): CredentialName | null {
  return credentialNames.find((known) => known === name.toLowerCase()) ?? null;
}

const alike = /token|apikey|bearer|jwt|passw|secret|credential|authoriz|authentic|^x?auth$/;
/** Tokens against forged requests prove nothing about the caller. */
const againstForgery = /csrf|xsrf/;

/** Whether a name that is none of ours may be meant for credentials, such as `access_token`. */
export function looksLikeCredential(name: string): boolean {
  const letters = name.toLowerCase().replace(/[^a-z]/g, '');
  return alike.test(letters) && !againstForgery.test(letters);
}
