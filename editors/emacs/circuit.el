;;; circuit.el --- circuitd's language server through eglot -*- lexical-binding: t; -*-

;; Needs eglot 1.9 (in Emacs since 29) and `circuit' on the path (pip install 'circuitd[lsp]').
;;
;;   (require 'circuit)
;;   M-x circuit            start the server for this buffer
;;   M-x circuit-heat       colour tokens by their loss, or another number
;;
;; Eglot runs one server for a buffer.  This one shows what a model sees; run it where the language's
;; own server is not wanted at the moment, or in an indirect buffer.

;;; Code:

(require 'eglot)
(require 'cl-lib)

(defgroup circuit nil "What a resident model sees in the text." :group 'tools)

(defcustom circuit-command '("circuit" "lsp")
  "How the language server is run."
  :type '(repeat string))

(defcustom circuit-settings nil
  "Settings of docs/lsp.md as a property list, like (:session \"quotes\" :debounceMs 100)."
  :type 'plist)

(defclass circuit-server (eglot-lsp-server) ()
  "The language server of circuitd.")

(cl-defmethod eglot-initialization-options ((_server circuit-server))
  "The settings, without heat as semantic tokens: overlays show it here."
  (append circuit-settings '(:semanticTokens :json-false)))

(defun circuit--face (level)
  "The face of LEVEL, from -9 to 9 without 0: warm or cool, stronger with its size."
  (let* ((dark (eq (frame-parameter nil 'background-mode) 'dark))
         (strength (/ (float (abs level)) 9))
         (towards (if (> level 0) '(0.80 0.38 0.03) '(0.03 0.45 0.75)))
         (from (if dark '(0.10 0.10 0.10) '(1.0 1.0 1.0))))
    (list :background
          (apply #'format "#%02x%02x%02x"
                 (cl-mapcar (lambda (a b) (round (* 255 (+ a (* strength (- b a)))))) from towards)))))

(defun circuit--clear (&rest _)
  "Remove the heat of this buffer: it was of another text."
  (remove-overlays (point-min) (point-max) 'circuit t))

(defun circuit--draw (heat)
  "Show HEAT in the buffer it is of."
  (let ((buffer (find-buffer-visiting (eglot--uri-to-path (plist-get heat :uri)))))
    (when buffer
      (with-current-buffer buffer
        (circuit--clear)
        (add-hook 'after-change-functions #'circuit--clear nil t)
        (when (equal (plist-get heat :state) "fresh")
          (cl-loop for token across (plist-get heat :tokens)
                   for level = (plist-get token :level)
                   unless (zerop level) do
                   (pcase-let* ((`(,beg . ,end) (eglot--range-region (plist-get token :range)))
                                (overlay (make-overlay beg end)))
                     (overlay-put overlay 'circuit t)
                     (overlay-put overlay 'circuit-level level)
                     (overlay-put overlay 'face (circuit--face level)))))))))

(cl-defmethod eglot-handle-notification
  ((_server circuit-server) (_method (eql circuit/heat)) &rest heat)
  "Show HEAT."
  (circuit--draw heat))

(dolist (method '(circuit/statusChanged circuit/sessionChanged circuit/catalogueChanged
                                        circuit/jobChanged))
  (eval `(cl-defmethod eglot-handle-notification
           ((_server circuit-server) (_method (eql ,method)) &rest _)
           "What eglot has no place for.")
        t))

(defun circuit-ask (method &rest params)
  "The answer of the server to METHOD of docs/lsp.md with PARAMS, a property list."
  (jsonrpc-request (eglot--current-server-or-lose) method (or params eglot--{})))

;;;###autoload
(defun circuit ()
  "Start the language server of circuitd for this buffer's project and mode."
  (interactive)
  ;; As if it were the only server that eglot knows; its versions differ in what they take besides.
  (let ((eglot-server-programs
         (list (cons (list major-mode) (cons 'circuit-server circuit-command)))))
    (apply #'eglot (eglot--guess-contact))))

(defun circuit-heat (what)
  "Colour this buffer's tokens by WHAT: loss, probability, difference; off removes that."
  (interactive
   (list (completing-read "Heat: " '("loss" "probability" "difference" "off") nil t)))
  (if (equal what "off")
      (circuit-ask :circuit/document/watch :uri (circuit--uri) :on :json-false)
    (circuit-ask :circuit/document/watch :uri (circuit--uri) :choice (list :of what))))

(defun circuit--uri ()
  "The address of this buffer."
  (eglot--path-to-uri buffer-file-name))

(defun circuit-show (circuit)
  "Show CIRCUIT as text."
  (interactive
   (list (completing-read
          "Circuit: "
          (mapcar (lambda (c) (plist-get c :id))
                  (plist-get (circuit-ask :circuit/circuits/list) :circuits)))))
  (let ((drawing (circuit-ask :circuit/circuits/draw :circuit circuit :columns 100)))
    (with-help-window (get-buffer-create "*circuit*")
      (princ (mapconcat #'identity (plist-get drawing :lines) "\n")))))

(defun circuit-explain (&optional versus)
  "Say which nodes carry the prediction at point, or why it and not the token VERSUS."
  (interactive)
  (let ((explained (apply #'circuit-ask :circuit/document/explain
                          :uri (circuit--uri) :position (eglot--pos-to-lsp-position)
                          (and versus (list :versus versus)))))
    (message "%s" (plist-get explained :sentence))
    explained))

(provide 'circuit)
;;; circuit.el ends here
