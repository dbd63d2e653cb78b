-- The server, as `vim.lsp.config` finds it: `vim.lsp.enable("circuit")` starts it for Python files.
return {
  cmd = { "circuit", "lsp" },
  filetypes = { "python", "json", "jsonl" },
  root_markers = { ".git", "pyproject.toml" },
  -- This plugin draws heat with extmarks, so semantic tokens need not carry it as well.
  init_options = { semanticTokens = false },
}
