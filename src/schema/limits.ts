import { GraphQLError, Kind, Lexer, Source, TokenKind } from 'graphql';
import type {
  ASTNode,
  ASTVisitor,
  DocumentNode,
  FragmentDefinitionNode,
  SelectionSetNode,
  ValidationContext,
} from 'graphql';

/** What a document may be at most; checked before anything of it runs, on every transport. */
const documentLimits = {
  /** Bytes of the text: comments are no tokens, so tokens alone do not bound it. */
  bytes: 100 * 1024,
  tokens: 2000,
  /** Levels of fields; the introspection fields, whose standard query is 15 deep, are not counted. */
  depth: 10,
  aliases: 30,
  directives: 50,
} as const;

/**
 * The error for a document over a limit: HTTP 400, also for clients that accept `application/json`,
 * to which GraphQL over HTTP would tell a document's own errors with 200 (`spec`).
 */
export function limitError(message: string): GraphQLError {
  return new GraphQLError(message, {
    extensions: { code: 'BAD_USER_INPUT', http: { status: 400, spec: false } },
  });
}

/** Whether an error comes from `limitError`, also after it was located in a document. */
export function isLimitError(error: GraphQLError): boolean {
  const { http } = error.extensions as { readonly http?: { readonly spec?: boolean } };
  return http?.spec === false;
}

/**
 * Refuses a text that is too long to be parsed.
 *
 * @throws GraphQLError from `limitError`
 */
export function refuseLongDocument(text: string): void {
  if (Buffer.byteLength(text) > documentLimits.bytes) {
    throw limitError(`A document may have at most ${documentLimits.bytes} bytes`);
  }
  const lexer = new Lexer(new Source(text));
  for (let tokens = 0; tokens <= documentLimits.tokens; tokens += 1) {
    try {
      if (lexer.advance().kind === TokenKind.EOF) return;
    } catch {
      return; // a syntax error, which the parser tells
    }
  }
  throw limitError(`A document may have at most ${documentLimits.tokens} tokens`);
}

/** Validation rule: aliases and directives of the whole document, and depth of each operation. */
export function limitsRule(context: ValidationContext): ASTVisitor {
  let aliases = 0;
  let directives = 0;
  return {
    Field(node) {
      if (node.alias !== undefined && ++aliases === documentLimits.aliases + 1) {
        context.reportError(
          limitError(`A document may have at most ${documentLimits.aliases} aliases`),
        );
      }
    },
    Directive() {
      if (++directives === documentLimits.directives + 1) {
        const message = `A document may have at most ${documentLimits.directives} directives`;
        context.reportError(limitError(message));
      }
    },
    OperationDefinition(node) {
      if (isDeeper(node.selectionSet, fragmentsOf(context.getDocument()), documentLimits.depth)) {
        const message = `A document may be at most ${documentLimits.depth} levels deep`;
        context.reportError(limitError(message));
      }
    },
  };
}

function fragmentsOf(document: DocumentNode): ReadonlyMap<string, FragmentDefinitionNode> {
  const isFragment = (node: ASTNode): node is FragmentDefinitionNode =>
    node.kind === Kind.FRAGMENT_DEFINITION;
  return new Map(document.definitions.filter(isFragment).map((node) => [node.name.value, node]));
}

/**
 * Whether fields are nested more than `limit` deep, fragments followed. Each fragment is looked at
 * once for each depth it is reached at, so a document of many spreads costs no more than its size
 * times the limit; a cycle of fragments is another rule's error.
 */
function isDeeper(
  root: SelectionSetNode,
  fragments: ReadonlyMap<string, FragmentDefinitionNode>,
  limit: number,
): boolean {
  const seen = new Set<string>();
  const visit = (selections: SelectionSetNode | undefined, depth: number): boolean => {
    if (selections === undefined) return false;
    return selections.selections.some((selection) => {
      switch (selection.kind) {
        case Kind.FIELD:
          if (selection.name.value.startsWith('__')) return false;
          return depth + 1 > limit || visit(selection.selectionSet, depth + 1);
        case Kind.INLINE_FRAGMENT:
          return visit(selection.selectionSet, depth);
        case Kind.FRAGMENT_SPREAD: {
          const key = `${depth} ${selection.name.value}`;
          if (seen.has(key)) return false;
          seen.add(key);
          return visit(fragments.get(selection.name.value)?.selectionSet, depth);
        }
        default:
          return selection satisfies never;
      }
    });
  };
  return visit(root, 0);
}
