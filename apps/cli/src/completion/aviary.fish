# Completion of aviary for fish: aviary completion fish | source

function __aviary_complete
    # What is typed up to the cursor, without quotes; nothing of it is evaluated.
    set -l before (commandline -opc)
    set -l typed (commandline -ct)
    set -l current (string unescape -- $typed)
    or set current (string replace -r '^[\'"]' '' -- $typed)
    set -l lines (command aviary __complete -- $before[2..-1] "$current" 2>/dev/null </dev/null)
    if test "$lines[1]" = paths
        __fish_complete_path "$current"
    else if set -q lines[2]
        printf '%s\n' $lines[2..-1]
    end
end

complete -c aviary -e
complete -c aviary -f -k -a '(__aviary_complete)'
