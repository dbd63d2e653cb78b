-- circuitd in Neovim: what a resident model sees in the text, token by token.
--
--   require("circuit").setup({ session = "editor", enabled = false })
--
-- `setup` takes the settings of docs/lsp.md, starts the server for Python files and adds commands.
-- Needs Neovim 0.11 and `circuit` on the path (pip install 'circuitd[lsp]').
local heat = require("circuit.heat")
local float = require("circuit.float")

local M = {}

--- The server of a buffer (0: this one); nil, and a message, if there is none.
function M.client(buffer)
  local client = vim.lsp.get_clients({ name = "circuit", bufnr = buffer or 0 })[1]
  if client == nil then
    vim.notify("circuit: no language server is attached to this buffer", vim.log.levels.WARN)
  end
  return client
end

--- Ask a request of docs/lsp.md; `done(result)` runs on success, an error is shown.
function M.ask(method, params, done)
  local client = M.client(0)
  if client == nil then
    return
  end
  client:request(method, params, function(err, result)
    if err then
      vim.notify("circuit: " .. err.message, vim.log.levels.ERROR)
    elseif done then
      done(result)
    end
  end)
end

local function uri()
  return vim.uri_from_bufnr(0)
end

local function here()
  local client = M.client(0)
  local params = vim.lsp.util.make_position_params(0, client and client.offset_encoding or "utf-16")
  return { uri = params.textDocument.uri, position = params.position }
end

-- site[channel], as the notation of nodes has it.
local function parse_node(text)
  local site, channel = text:match("^(.+)%[(%d+)%]$")
  if site == nil then
    vim.notify("circuit: a node looks like 2.mlp.post_act[3]", vim.log.levels.ERROR)
    return nil
  end
  return { site = site, channel = tonumber(channel) }
end

local function node_name(node)
  return ("%s[%d]"):format(node.site, node.channel)
end

--- Heat of this buffer: "off", "loss", "probability", "difference", or a node like 2.mlp.post_act[3].
function M.heat(what)
  local params = { uri = uri(), on = what ~= "off" }
  if what == "off" or what == nil or what == "" then
    params.choice = nil
  elseif what:find("%[") then
    params.choice = { of = "node", node = parse_node(what) }
    if params.choice.node == nil then
      return
    end
  else
    params.choice = { of = what }
  end
  M.ask("circuit/document/watch", params)
end

--- Numbers behind tokens, or not.
function M.hints(on)
  vim.lsp.inlay_hint.enable(on, { bufnr = 0 })
  local client = M.client(0)
  if client then
    client:exec_cmd({ title = "numbers", command = "circuit.hints", arguments = { { on = on } } })
  end
end

--- Which nodes carry the prediction under the cursor, or why it and not the token `versus`.
function M.explain(versus)
  local params = here()
  params.versus = versus ~= "" and versus or nil
  M.ask("circuit/document/explain", params, function(result)
    local lines = vim.split(result.sentence, ". ", { plain = true })
    table.insert(lines, "")
    for _, effect in ipairs(result.nodes) do
      local change = effect.logitChange
      local last = type(change) == "number" and ("%+.3f logits"):format(change) or ""
      local delta = ("%+.4f nats"):format(effect.delta)
      table.insert(lines, ("%-26s %8.3f  %s  %s"):format(node_name(effect.node), effect.activation, delta, last))
    end
    float.show("explanation", lines)
  end)
end

--- What the prediction under the cursor does without a node.
function M.ablate(text)
  local node = parse_node(text)
  if node == nil then
    return
  end
  local params = here()
  params.nodes = { node }
  M.ask("circuit/document/ablate", params, function(result)
    local lines = { result.sentence, "", "before" }
    for _, title in ipairs({ "before", "after" }) do
      if title == "after" then
        vim.list_extend(lines, { "", "after" })
      end
      for _, prediction in ipairs(result[title]) do
        table.insert(lines, ("  %-20s %5.1f%%"):format(prediction.text, 100 * prediction.probability))
      end
    end
    float.show("ablation", lines)
  end)
end

--- A circuit as text; without a name, the session's, else one is chosen.
function M.show(circuit)
  local function draw(name)
    M.ask("circuit/circuits/draw", { circuit = name, columns = vim.o.columns - 6 }, function(result)
      float.show(result.title, result.lines)
    end)
  end
  if circuit ~= nil and circuit ~= "" then
    return draw(circuit)
  end
  M.ask("circuit/session/get", vim.empty_dict(), function(session)
    if session.circuit ~= vim.NIL then
      return draw(session.circuit)
    end
    M.choose(function(chosen)
      draw(chosen.id)
    end)
  end)
end

--- Choose a circuit, and select it in the session; then `done(circuit)`.
function M.choose(done)
  M.ask("circuit/circuits/list", vim.empty_dict(), function(result)
    local function label(c)
      return ("%s  %d nodes, loss %.3f  %s"):format(c.task, c.k, c.loss, c.id:sub(1, 8))
    end
    vim.ui.select(result.circuits, { prompt = "circuit", format_item = label }, function(chosen)
      if chosen == nil then
        return
      end
      local patch = { circuit = chosen.id, task = chosen.task }
      M.ask("circuit/session/update", patch, function()
        if done then
          done(chosen)
        end
      end)
    end)
  end)
end

--- Select a node in the session, for everybody who looks at it.
function M.select(text)
  local node = parse_node(text)
  if node ~= nil then
    M.ask("circuit/session/update", { node = node })
  end
end

--- Whether there is a daemon, and how it does.
function M.status()
  M.ask("circuit/status", vim.empty_dict(), function(status)
    local lines = { status.sentence }
    if status.hint ~= vim.NIL then
      table.insert(lines, status.hint)
    end
    for _, model in ipairs(status.resident) do
      table.insert(lines, ("%s on %s, %d MB"):format(model.model, model.device, model.nbytes / 1e6))
    end
    vim.notify(table.concat(lines, "\n"))
  end)
end

--- For a status line: what the heat of this buffer is, "" where there is none.
function M.statusline()
  local shown = vim.b.circuit_heat
  if shown == nil then
    return ""
  end
  local mean = shown.mean_loss and (" %.2f nats"):format(shown.mean_loss) or ""
  return ("%s: %s%s"):format(shown.model, shown.of, mean)
end

local function add_commands()
  local function add(name, run, options)
    vim.api.nvim_create_user_command("Circuit" .. name, function(arguments)
      run(arguments.args)
    end, options)
  end
  local kinds = { "loss", "probability", "difference", "off" }
  add("Heat", M.heat, {
    nargs = "?",
    desc = "Heat on this buffer: loss, probability, difference, off, or a node",
    complete = function(typed)
      return vim.tbl_filter(function(kind)
        return vim.startswith(kind, typed)
      end, kinds)
    end,
  })
  add("Hints", function(what)
    M.hints(what ~= "off")
  end, { nargs = "?", desc = "Numbers behind tokens (off: none)" })
  add("Explain", M.explain, { nargs = "?", desc = "Which nodes carry this prediction" })
  add("Ablate", M.ablate, { nargs = 1, desc = "What this prediction does without a node" })
  add("Show", M.show, { nargs = "?", desc = "A circuit as text" })
  add("Choose", function()
    M.choose()
  end, { nargs = 0, desc = "Choose the session's circuit" })
  add("Select", M.select, { nargs = 1, desc = "Select a node in the session" })
  add("Status", M.status, { nargs = 0, desc = "Whether there is a daemon" })
  add("Start", function()
    M.ask("circuit/daemon/start", vim.empty_dict(), function(status)
      vim.notify(status.sentence)
    end)
  end, { nargs = 0, desc = "Start a daemon" })
end

local function follow_buffers()
  local group = vim.api.nvim_create_augroup("circuit", { clear = true })
  local function on(events, run)
    vim.api.nvim_create_autocmd(events, { group = group, callback = run })
  end
  -- What was drawn is of a text that is no more: it goes at once, and comes back when it is fresh.
  on({ "TextChanged", "TextChangedI", "TextChangedP" }, function(event)
    heat.clear(event.buf)
  end)
  on("ColorScheme", heat.define_highlights)
  on("CursorHold", function(event)
    local shown = vim.b[event.buf].circuit_heat
    if shown == nil or shown.is_whole then
      return
    end
    for _, client in ipairs(vim.lsp.get_clients({ name = "circuit", bufnr = event.buf })) do
      client:notify("circuit/document/focus", here())
    end
  end)
end

--- Start the server for the buffers it is for; `options` are its settings, and `cmd`.
function M.setup(options)
  options = vim.deepcopy(options or {})
  local config = {
    handlers = {
      ["circuit/heat"] = function(_, params, context)
        heat.draw(params, assert(vim.lsp.get_client_by_id(context.client_id)))
      end,
      ["circuit/sessionChanged"] = function(_, params)
        M.session = params
      end,
      ["circuit/statusChanged"] = function(_, params)
        M.daemon = params
      end,
      ["circuit/catalogueChanged"] = function() end,
      ["circuit/jobChanged"] = function() end,
    },
  }
  config.cmd, options.cmd = options.cmd, nil
  options.semanticTokens = options.semanticTokens or false
  config.init_options = options
  heat.define_highlights()
  add_commands()
  follow_buffers()
  vim.lsp.config("circuit", config)
  vim.lsp.enable("circuit")
end

return M
