"""Routes, schemas, authentication and problem details. The only part that knows HTTP."""
