"""Routes, schemas, authentication and problem details. The only room that knows HTTP."""
