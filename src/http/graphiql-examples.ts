/** What GraphiQL opens with: the operations to learn from, ready to run one after the other. */
export const exampleOperations = `# Welcome to Tenantry. Press the play button (or
# Ctrl-Enter) and choose an operation. Every field is
# described: hover over it, or open the documentation.

# 1. A tenant with a PostgreSQL database of its own:
#    created, verified, sealed. Run it twice: the key
#    makes it the same tenant. Another key, another one.
mutation CreateTenant {
  createTenant(
    input: {
      name: "Acme Corp"
      environment: DEVELOPMENT
      idempotencyKey: "demo-1"
    }
  ) {
    tenant {
      id
      number
      slug
      status
      database {
        cluster
        databaseName
        migrationVersion
        sizeBytes
      }
    }
    operation {
      status
      durationMs
      steps {
        name
        status
        durationMs
      }
    }
    # Shown to whoever has the key, and to nobody else.
    apiKey
    userErrors {
      code
      field
      message
    }
  }
}

# 2. How it was made, step by step. Start it before
#    the creation, and it waits and watches live.
subscription WatchTenant {
  tenantProvisioningProgress(idempotencyKey: "demo-1") {
    sequence
    percent
    step
    status
    message
    at
  }
}

# 3. All tenants, newest first.
query Tenants {
  tenants(first: 10, orderBy: { field: CREATED_AT, direction: DESC }) {
    totalCount
    nodes {
      id
      number
      name
      slug
      status
      createdAt
    }
  }
}

# 4. Deletes softly: nobody can log in any more, the
#    data stays until purgeAt. Put the id that
#    CreateTenant answered in the place of the text.
mutation DeleteTenant {
  deleteTenant(input: { id: "the tenant's id" }) {
    tenant {
      status
      deletedAt
      purgeAt
    }
    userErrors {
      code
      message
    }
  }
}

# 5. What was done, and how it went.
query Operations {
  operations(first: 10) {
    nodes {
      id
      kind
      status
      percent
      durationMs
      tenant {
        name
      }
      error {
        message
      }
    }
  }
}

# 6. Changes what is named, and nothing else; null
#    clears what may be empty.
mutation UpdateTenant {
  updateTenant(
    input: {
      id: "the tenant's id"
      description: "A customer since today"
    }
  ) {
    tenant {
      description
      version
    }
    userErrors {
      code
      message
    }
  }
}

# 7. A new API key, shown this once. The old one works
#    on for a while.
mutation RotateApiKey {
  rotateTenantApiKey(input: { id: "the tenant's id" }) {
    apiKey
    previousKeyExpiresAt
    userErrors {
      code
      message
    }
  }
}

# 8. Ends one key at once; Tenant.apiKeys has its id.
mutation RevokeApiKey {
  revokeTenantApiKey(
    input: { id: "the tenant's id", apiKeyId: "the key's id" }
  ) {
    tenant {
      apiKeys {
        id
        prefix
        revokedAt
      }
    }
    userErrors {
      code
      message
    }
  }
}

# 9. What the tenant's programs connect with: a secret.
mutation RevealConnection {
  revealTenantConnection(input: { id: "the tenant's id" }) {
    connectionString
    userErrors {
      code
      message
    }
  }
}

# 10. Many at once, each by itself; atomic: true makes
#     all or none. Each key is shown here, this once.
mutation CreateBatch {
  createTenantsBatch(
    input: {
      tenants: [
        { name: "Globex" }
        { name: "Initech", isolation: SCHEMA }
      ]
    }
  ) {
    batch {
      id
      status
      summary {
        totalRequested
        successful
        failed
      }
      results {
        index
        success
        apiKey
        tenant {
          name
        }
        userErrors {
          message
        }
      }
    }
    userErrors {
      code
      message
    }
  }
}

# 11. Made at its time, its names taken at once. Put a
#     moment to come in the place of the text.
mutation ScheduleTenant {
  createTenant(
    input: { name: "Hooli", provisionAt: "a moment to come" }
  ) {
    tenant {
      status
      provisionAt
    }
    operation {
      id
      status
    }
    userErrors {
      code
      message
    }
  }
}

# 12. As long as it has not begun: the names are free
#     again.
mutation CancelOperation {
  cancelOperation(input: { id: "the operation's id" }) {
    operation {
      status
    }
    userErrors {
      code
      message
    }
  }
}

# 13. Connects with the tenants' own credentials, and
#     looks whether all is there.
query Health {
  tenantHealth {
    tenant {
      name
    }
    status
    latencyMs
    error
  }
}

query WhoAmI {
  viewer {
    subject
    kind
    permissions
  }
}
`;

/** The headers pane beside them: what may be sent along, with values that do no harm. */
export const exampleHeaders = `{
  "X-Request-Id": "graphiql"
}
`;
