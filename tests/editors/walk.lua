-- What someone does who uses only Neovim, step by step; each step's outcome is written to a file.
local out, source = arg[1], arg[2]
local results = {}

local function wait_for(what, check)
  local found
  local ok = vim.wait(120000, function()
    found = check()
    return found
  end, 20)
  if not ok then
    error("waited in vain for " .. what .. "; messages: " .. vim.fn.execute("messages"))
  end
  return found
end

local function marks()
  return require("circuit.heat").marks(0)
end

local function float_lines()
  local window = vim.api.nvim_get_current_win()
  if vim.api.nvim_win_get_config(window).relative == "" then
    return nil
  end
  local lines = vim.api.nvim_buf_get_lines(vim.api.nvim_win_get_buf(window), 0, -1, false)
  vim.cmd.close()
  return lines
end

local function walk()
  vim.o.background = "dark"
  vim.cmd("filetype on")
  require("circuit").setup({ session = "neovim", debounceMs = 10 })
  vim.cmd.edit(source)
  local client = wait_for("the server", function()
    local found = vim.lsp.get_clients({ name = "circuit", bufnr = 0 })[1]
    return found and found.initialized and found
  end)
  wait_for("the daemon", function()
    return require("circuit").daemon and require("circuit").daemon.state == "connected"
  end)
  results.before = #marks()

  vim.cmd("CircuitHeat loss")
  wait_for("heat", function()
    return #marks() > 0
  end)
  local first = marks()[1]
  results.marks = #marks()
  results.first = { row = first[2], column = first[3], end_column = first[4].end_col, group = first[4].hl_group }
  results.statusline = require("circuit").statusline()

  vim.api.nvim_win_set_cursor(0, { 2, 11 })
  local place = vim.lsp.util.make_position_params(0, client.offset_encoding)
  local hover = assert(client:request_sync("textDocument/hover", place, 60000, 0))
  results.hover = hover.result.contents.value

  vim.cmd("CircuitHints")
  results.hints = wait_for("inlay hints", function()
    local hints = vim.lsp.inlay_hint.get({ bufnr = 0 })
    return #hints > 0 and #hints
  end)

  local circuits
  require("circuit").ask("circuit/circuits/list", { task = "for_while" }, function(result)
    circuits = result.circuits
  end)
  wait_for("circuits", function()
    return circuits
  end)
  require("circuit").ask("circuit/session/update", { circuit = circuits[1].id })
  wait_for("the session", function()
    return require("circuit").session and require("circuit").session.circuit == circuits[1].id
  end)
  vim.cmd("CircuitShow")
  results.circuit = wait_for("the circuit", float_lines)

  vim.api.nvim_win_set_cursor(0, { 4, 6 })
  vim.cmd("CircuitExplain")
  results.explanation = wait_for("an explanation", float_lines)
  vim.cmd("CircuitAblate final_resid[198]")
  results.ablation = wait_for("an ablation", float_lines)

  local range = vim.lsp.util.make_range_params(0, client.offset_encoding)
  range.context = { diagnostics = {} }
  local actions = assert(client:request_sync("textDocument/codeAction", range, 60000, 0))
  results.actions = vim.tbl_map(function(action)
    return action.title
  end, actions.result)

  -- An edit clears what was drawn at once, and fresh heat comes back.
  vim.api.nvim_buf_set_lines(0, 0, 1, false, { "def 漢字🙂(x):" })
  vim.api.nvim_exec_autocmds("TextChanged", { buffer = 0 })
  results.cleared = #marks()
  wait_for("heat after an edit", function()
    return #marks() > 0
  end)
  local line = vim.api.nvim_buf_get_lines(0, 0, 1, false)[1]
  results.within = vim.iter(marks()):all(function(mark)
    return mark[2] > 0 or (mark[3] <= #line and mark[4].end_col <= #line or mark[4].end_row > 0)
  end)

  vim.cmd("CircuitHeat off")
  wait_for("no heat", function()
    return #marks() == 0
  end)
  results.after = #marks()
end

local ok, problem = xpcall(walk, debug.traceback)
results.problem = not ok and problem or nil
vim.fn.writefile({ vim.json.encode(results) }, out)
vim.cmd("qall!")
