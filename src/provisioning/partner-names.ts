/** Partner of tenants that a caller without a partner makes and names none for. */
export const platformPartner = 'platform';

/** What the partner of a token without a partner claim begins with. */
const subjectPrefix = 'sub:';

/**
 * Partner of a token without a partner claim: its subject, in a name space of its own, so that no user of an
 * issuer is another partner by a name.
 */
export function partnerOfSubject(subject: string): string {
  return subjectPrefix + subject;
}

/** Whether no claim may name this partner: it is the operator's own, or that of a subject. */
export function isReservedPartner(partner: string): boolean {
  return partner === platformPartner || partner.startsWith(subjectPrefix);
}

/** Characters of a subject, or of the name of a partner in a claim. */
export const maxNameLength = 255;

/** The subject that a partner's name stands for; null: it stands for none. */
export function namedSubject(partner: string): string | null {
  return partner.startsWith(subjectPrefix) ? partner.slice(subjectPrefix.length) : null;
}

/** Whether a text can name a partner, in a claim or as that of a subject. */
export function isNameOfPartner(text: string): boolean {
  const name = namedSubject(text) ?? text;
  return name !== '' && name.length <= maxNameLength && !name.includes('\0');
}
